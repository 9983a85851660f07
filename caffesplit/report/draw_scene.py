"""What is drawn of a net: its layers in some states, their shapes and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caffesplit.net import graph
from caffesplit.net.graph import Net
from caffesplit.net.partial import Partial, merged
from caffesplit.net.shapes import Shapes, infer, infer_layers
from caffesplit.net.upgrade import upgrade_net
from caffesplit.report.draw_boxes import Diagram, diagram
from caffesplit.report.draw_costs import Cost, layer_cost


@dataclass(frozen=True)
class Scene:
    """A net in today's format, its shapes in each state that is drawn, its boxes and edges."""

    net: Net
    states: tuple[Shapes, ...]
    diagram: Diagram

    @property
    def present(self) -> list[int]:
        return sorted(index for box in self.diagram.boxes for index in box)

    def spatial_axes(self, index: int) -> int:
        """Of a convolution's bottom; 2 where that is not known."""
        bottom = next(iter(self._state(index).bottoms[index]), None)
        axis: int = self.net.layers[index].message.convolution_param.axis
        return 2 if bottom is None else len(bottom) - axis % len(bottom) - 1

    def cost(self, index: int) -> Cost:
        return layer_cost(self._state(index), index)

    def _state(self, index: int) -> Shapes:
        return next(shapes for shapes in self.states if index in shapes.tops)


def scene(
    net: Net, shapes: Shapes | None, phase: str | None, data: Mapping[str, Partial] | None = None
) -> Scene:
    """A net with the layers of a phase; without a phase with all layers.

    `shapes`, where given, are those of the net as it is trained. `data` is what is known of the
    blobs that come from outside, as `data_shapes` gives it; that of `shapes` holds for TEST too.
    """
    data = _data(shapes) if shapes else data or {}
    if net.legacy or net.inputs:
        net, shapes = graph.build(upgrade_net(net.tree).result), None
    trained = phase != "TEST" and shapes
    first = trained or _inferred(net, data, phase or "TRAIN")
    states = [first]
    if phase is None:
        everything = infer_layers(net, range(len(net.layers)), data)
        states += [_inferred(net, data, "TEST"), everything]
    return Scene(net, tuple(states), diagram(net, states))


def data_shapes(scene: Scene) -> dict[str, Partial]:
    """What is known of one image, or one label, of each blob that comes from outside."""
    return _data(scene.states[0])


def _data(shapes: Shapes) -> dict[str, Partial]:
    sources = [index for index in shapes.tops if not shapes.net.layers[index].bottoms]
    blobs = [top for index in sources for top in shapes.net.layers[index].tops]
    known = {name: shapes.partial[name] for name in blobs if name in shapes.partial}
    return {name: (None, *shape[1:]) for name, shape in known.items() if shape}


def _inferred(net: Net, data: Mapping[str, Partial], phase: str) -> Shapes:
    """The shapes in a phase, with what the net itself leaves open taken from `data`."""
    alone = infer(net, phase=phase).partial
    return infer(net, {name: _filled(alone.get(name), data[name]) for name in data}, phase)


def _filled(own: Partial | None, other: Partial) -> Partial:
    if own is None:
        return other
    return merged(own, other) if len(own) == len(other) else own
