"""The study catalogue (SQL) and the vectors (HNSW): what is kept, and which cases are near."""
