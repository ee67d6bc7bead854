"""The schema of the database: the tables, and the migrations that create them."""
