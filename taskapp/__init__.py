"""taskapp without HTTP; CONTRIBUTING.md has the map of its packages."""
