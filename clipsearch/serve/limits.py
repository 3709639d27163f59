"""What a request may contain at most: for the server, which enforces it, and for the client, which imports little."""

MAX_BODY = 32 * 2**20
"""Bytes."""

MAX_JSON = 2**20
"""Bytes of JSON; 64 texts of the greatest length take about half of that."""

MAX_PARTS = 8
"""Parts of a form; one of them may have the parameters."""

MAX_IMAGES = 8
MAX_TEXTS = 64

MAX_TEXT = 2000
"""Characters of one text: no encoder reads that many, and the parameters of a GET request must fit into 64 KiB."""

MAX_PATH = 8192
"""Characters of a path in base64: systems allow 4,096 bytes."""

MAX_K = 1000

MAX_HITS = 10_000
"""Hits of all queries of a batch: about 10 MB."""

READING_S = 30.0
"""Seconds in which a body must arrive."""
