"""Plots, by matplotlib: similarities, classifications and what `eval` measures. The only package that imports it.

Every function here takes plain results or arrays and the name of a file, which ends in .png or .svg. Colours read well
with colour blindness of any kind; nothing is said by colour alone. A PNG is light, or dark on request, on a ground of
its own. An SVG follows the reader's light or dark mode, unless dark is asked for.
"""
