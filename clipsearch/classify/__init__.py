"""Zero-shot and few-shot classification: labels and examples to prototypes, vectors to predictions."""
