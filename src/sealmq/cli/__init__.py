"""The command line: one file per verb, each parses, calls and prints.

It refuses to decide anything; what a verb does lives in the packages below.
"""
