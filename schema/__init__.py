"""The tables of the database, and the migrations that create them."""
