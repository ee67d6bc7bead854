"""Password hashes, signatures and rate limits; no database."""
