"""Find pictures by describing them: CLIP embeddings, a FAISS inner-product index, everything known in SQLite."""
