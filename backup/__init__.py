"""Everything between a SQLite file and the bucket."""
