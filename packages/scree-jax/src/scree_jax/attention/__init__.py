"""Attention of each row's queries to the same row's keys, in several ways that agree."""
