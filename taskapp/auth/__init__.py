"""Password hashes, signatures and rate limits, without a database."""
