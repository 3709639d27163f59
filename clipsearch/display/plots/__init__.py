"""Plots, by matplotlib: similarities, classifications and what `eval` measures. The only package that imports it.

Every function here takes plain results or arrays and a file name that ends in .png or .svg. Colours can be told apart
with any kind of colour blindness, and nothing is shown by colour alone. A PNG has its own background, light by default
or dark. An SVG follows the viewer's light or dark mode, unless `dark` is set.
"""
