"""The harness of the end-to-end suite: real binary, real sockets, real PostgreSQL, real clients.

Every module is a thin layer over a real thing; nothing here imitates the product.
"""
