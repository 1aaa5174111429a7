"""A local world for the demo and the tests: emulated storage and Pub/Sub, and the real service.

The service imports nothing of it, and the container leaves it out.
"""
