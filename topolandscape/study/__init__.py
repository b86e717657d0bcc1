"""One run from a model and its data to a barcode: what to compute, the folder it goes to, its pictures."""

from topolandscape.study.pictures import pictures as pictures
from topolandscape.study.recipe import REGIONS as REGIONS
from topolandscape.study.recipe import ROUTES as ROUTES
from topolandscape.study.recipe import Recipe as Recipe
from topolandscape.study.runs import run as run
from topolandscape.study.runs import run_surface as run_surface
