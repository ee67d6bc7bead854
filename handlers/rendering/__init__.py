"""Templates, page skeletons, languages and static files."""
