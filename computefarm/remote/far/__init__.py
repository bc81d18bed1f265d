"""What runs on the other machine: standard library only.

The modules are sent through ssh each time, so they fit the side that sends them whatever is installed there;
`keeper` alone runs from the installation.
"""
