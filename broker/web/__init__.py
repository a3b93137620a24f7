"""The portal: every view parses a request, calls one function of the core and renders.

A request passes ``visit`` (reference id, address), ``access`` (closed unless listed as open, CSRF), its view, and
``errors`` when something refuses; ``headers`` and ``request_log`` see every answer.
"""
