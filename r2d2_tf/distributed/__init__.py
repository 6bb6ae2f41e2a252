"""Replicas and processes that train one network together."""
