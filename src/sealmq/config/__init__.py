"""Configuration: one schema, the settings in force with their origins, and the rule file.

It refuses to know the broker; `sealmq.broker` turns settings into what the data plane takes.
"""
