"""The graph behind a loss, as data and as a picture: what ran, what it keeps, what came back.

from tinygpt import Tensor, graph

x, w, b = (Tensor(number, requires_grad=True) for number in (2.0, 3.0, 4.0))
print(graph.to_svg(graph.trace(x * w + b, x=x, w=w, b=b)))
"""

from .draw import to_dot, to_svg
from .trace import Graph, Saved, Vertex, trace

__all__ = ["Graph", "Saved", "Vertex", "to_dot", "to_svg", "trace"]
