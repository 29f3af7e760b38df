"""Addresses for pods: the pool, its operations on the cloud, and what the cloud has refused."""
