"""Templates, languages and static files."""
