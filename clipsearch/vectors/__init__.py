"""Vector indexes: nearest neighbours by inner product, and the files that hold them. Knows nothing of the catalog."""
