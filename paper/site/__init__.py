"""The results site: static pages from claims down to single answers, which open without a server.

Python computes every number; the pages only show, filter and count nothing that is a statistic.
"""
