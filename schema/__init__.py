"""What the database looks like: the tables, and the migrations that make them."""
