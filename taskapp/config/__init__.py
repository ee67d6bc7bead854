"""Settings, the secret key and how the program is installed."""
