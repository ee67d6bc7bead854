"""The benchmark of taskapp, and its data set. README.md explains how to run it."""
