"""Everything of taskapp that is not HTTP. CONTRIBUTING.md has a line for each package."""
