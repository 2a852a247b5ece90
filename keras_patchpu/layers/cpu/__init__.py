"""The embedder's arithmetic, arranged for speed."""
