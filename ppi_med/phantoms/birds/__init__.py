"""A phantom of bird photographs: species on habitats, written in the layout of CUB_200_2011.

- ``species``: what tells the classes apart; ``habitats``: what the background looks like.
- ``shapes``: a bird as polygons; ``render``: both together as pixels, with the bird's box.
- ``spec``: the parameters and the plan that follows; ``write``: the data set on the disk.
"""
