"""Tests of the Dockerfile and the compose file: by linters, and on a Docker daemon that has no network."""
