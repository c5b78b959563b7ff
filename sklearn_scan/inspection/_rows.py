# SPDX-License-Identifier: BSD-3-Clause
"""Rows of images with a label each, in several columns where there are many rows."""

from dataclasses import dataclass, field

import numpy as np

from sklearn_scan.inspection._plotting import ACCENT, ORANGE, QUIET, Display

#: Frames of the first image of a row, of those that deserve a look, and of others.
FIRST = {"edgecolor": ACCENT, "linewidth": 2}
MARKED = {"edgecolor": ORANGE, "linewidth": 2.5}
PLAIN = {"edgecolor": "0.85", "linewidth": 0.6}

# In widths of an image: between images, after the first one, and between columns.
_SPACE, _GAP, _GUTTER = 0.13, 0.35, 0.6

# More rows are drawn in several columns, with smaller images and text.
_MOST_ROWS = 25
_INCHES, _INCHES_OF_MANY = 0.56, 0.4  # of the shorter side and the space beside it
_POINTS, _POINTS_OF_MANY = 9, 7

# How many lines fit into a row.
_N_LINES = 2.7
_INCHES_OF_HEADING, _INCHES_OF_MARGIN = 0.3, 0.1


@dataclass
class ImageRow:
    """Images side by side.

    Attributes
    ----------
    label : str
        One or two lines, on the left.
    images : ndarray of shape (n_images, h, w) or (n_images, h, w, 3)
        With black at 0 and white at 1.
    frames : list of dict
        The style of the frame of each image.
    tags : dict of int to str
        What is written onto images, by their number in the row.
    """

    label: str
    images: np.ndarray
    frames: list
    tags: dict = field(default_factory=dict)


class RowsDisplay(Display):
    """Base of displays that are rows of images."""

    def _draw_rows(self, rows, headings, *, cmap, ax):
        """Draw rows of images.

        Parameters
        ----------
        rows : list of ImageRow
            From top to bottom. Images are of one shape.
        headings : tuple of str
            What stands above the first images, and above the others.
        cmap : str or matplotlib.colors.Colormap
            Colours of gray images.
        ax : matplotlib.axes.Axes or None
            Where to draw; None makes a figure.
        """
        layout = _Layout(rows, headings)
        is_given = ax is not None
        ax = self._take_axes(ax, None if is_given else layout.find_figure_size())
        if is_given:
            layout.shrink_to(ax)
        else:
            margin = {"w_pad": _INCHES_OF_MARGIN, "h_pad": _INCHES_OF_MARGIN}
            self.figure_.get_layout_engine().set(**margin)
        for number, row in enumerate(rows):
            _draw_row(ax, row, layout.find_place(number), layout, cmap)
        _write_headings(ax, headings, layout)
        width, height = layout.shape
        margin = _SPACE / 2  # for the frames
        top = -_INCHES_OF_HEADING / layout.unit
        ax.set(xlim=(-margin, width + margin), ylim=(height + margin, top))
        ax.set_aspect("equal")
        ax.set_anchor("NW")
        ax.set_axis_off()
        return self


class _Layout:
    """Where rows lie, in widths of an image from the upper left corner.

    Attributes
    ----------
    unit : float
        The width of an image in inches.
    points : float
        The size of the text.
    """

    def __init__(self, rows, headings):
        shapes = [row.images.shape[1:3] for row in rows if len(row.images)]
        self.image_height = shapes[0][0] / shapes[0][1] if shapes else 1
        self.most_images = max(1, *(len(row.images) for row in rows))
        lines = [line for row in rows for line in row.label.split("\n")]
        # Of labels, and of what stands above the images after the first one.
        self._text_width = max(map(_measure_text, lines))
        self._heading_width = _measure_text(headings[1]) if self.most_images > 1 else 0
        self.n_columns = -(-len(rows) // _MOST_ROWS)
        self.n_rows = -(-len(rows) // self.n_columns)
        is_many = self.n_columns > 1
        self.points = _POINTS_OF_MANY if is_many else _POINTS
        inches = _INCHES_OF_MANY if is_many else _INCHES
        self.unit = inches / (min(1, self.image_height) + _SPACE)

    @property
    def label_width(self):
        """Width of the labels of a column."""
        return self._text_width * self.points / 72 / self.unit + _SPACE

    @property
    def pitch(self):
        """From column to column, and from row to row."""
        above = left_of(1) + self._heading_width * self.points / 72 / self.unit
        width = self.label_width + max(left_of(self.most_images), above) + _GUTTER
        return width, self.image_height + _SPACE

    @property
    def shape(self):
        """Width and height of all rows."""
        width, height = self.pitch
        return self.n_columns * width - _GUTTER, self.n_rows * height - _SPACE

    def find_place(self, number):
        """Return where the images of a row begin: left and top."""
        column, row = divmod(number, self.n_rows)
        width, height = self.pitch
        return column * width + self.label_width, row * height

    def find_figure_size(self):
        """Return width and height of a figure in inches."""
        width, height = self.shape
        margin = 2 * _INCHES_OF_MARGIN
        height = height * self.unit + _INCHES_OF_HEADING
        return width * self.unit + margin, height + margin

    def shrink_to(self, ax):
        """Let images and text fit into axes of any size."""
        box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
        for _ in range(2):  # the width of the text depends on the size of the images
            text = self.n_columns * self.label_width * self.unit
            width, height = self.shape
            images = width - self.n_columns * self.label_width
            self.unit = min(
                max(box.width - text, 0.2 * box.width) / images,
                max(box.height - _INCHES_OF_HEADING, 0.2 * box.height) / height,
            )
            room = 72 * self.unit * self.pitch[1] / _N_LINES
            self.points = min(self.points, room)


def _measure_text(text):
    """Return the width of a line of text, as a multiple of the size of its letters."""
    from matplotlib.textpath import TextPath

    width = TextPath((0, 0), text, size=100).get_extents().width / 100
    return 1.08 * width  # on a screen, letters stand at whole pixels


def left_of(number):
    """Return where the image of a number begins, from the first one of its row."""
    return number * (1 + _SPACE) + (_GAP - _SPACE if number else 0)


def _draw_row(ax, row, place, layout, cmap):
    from matplotlib.patches import Rectangle

    left, top = place
    height, points = layout.image_height, layout.points
    label = {"ha": "right", "va": "center", "fontsize": points}
    ax.text(left - _SPACE, top + height / 2, row.label, **label)
    for number, (image, frame) in enumerate(zip(row.images, row.frames, strict=True)):
        x = left + left_of(number)
        extent = (x, x + 1, top + height, top)
        ax.imshow(image, cmap=cmap, vmin=0, vmax=1, extent=extent)
        ax.add_patch(Rectangle((x, top), 1, height, fill=False, **frame))
        if number in row.tags:
            box = {"facecolor": frame["edgecolor"], "linewidth": 0, "pad": 1}
            style = {"ha": "right", "va": "bottom", "fontsize": 0.8 * points}
            ax.text(x + 1, top + height, row.tags[number], bbox=box, **style)


def _write_headings(ax, headings, layout):
    first, others = headings
    for column in range(layout.n_columns):
        left, top = layout.find_place(column * layout.n_rows)
        style = {"va": "bottom", "fontsize": layout.points}
        y = top - _SPACE
        ax.text(left + 0.5, y, first, ha="center", color=ACCENT, **style)
        if layout.most_images > 1:
            ax.text(left + left_of(1), y, others, color=QUIET, **style)
