"""Amounts from sums that grow since a forecast's start.

- `amounts`: `deaccumulate`, of labelled fields
- `restarts`: where the sums began anew, and the increments between

Stands on `cf`.
"""
