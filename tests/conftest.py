"""What all tests share: this folder on the path of imports, so that `programs` can be imported from any of them.

Knows nothing of brokers; each folder of tests makes its own.
"""
