"""Everything of taskapp that is not HTTP. CONTRIBUTING.md has the map of the packages."""
