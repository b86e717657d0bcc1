"""A run in a browser: a live page that is served to this machine alone, and a page in one file to keep.

Figures are plain values, as plotly's JavaScript takes them, so that reading a run needs neither plotly nor Dash; these
are imported where a page is written or served.
"""

from topolandscape.explore.export import write_page as write_page
