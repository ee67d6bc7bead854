"""What clients may send, the same for pages and API: fields, forms, parameters."""
