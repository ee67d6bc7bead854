"""What may be sent: fields and forms, the same for pages and API."""
