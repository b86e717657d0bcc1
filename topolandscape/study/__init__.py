"""From a model and its data to a barcode, in a folder of its own; and from many such runs to a comparison."""

from topolandscape.study.comparison import StudyResult as StudyResult
from topolandscape.study.comparison import compare_runs as compare_runs
from topolandscape.study.comparison import cost_of_study as cost_of_study
from topolandscape.study.comparison import run_study as run_study
from topolandscape.study.measures import MEASURES as MEASURES
from topolandscape.study.pictures import pictures as pictures
from topolandscape.study.recipe import REGIONS as REGIONS
from topolandscape.study.recipe import ROUTES as ROUTES
from topolandscape.study.recipe import Recipe as Recipe
from topolandscape.study.report import json_of as json_of
from topolandscape.study.report import lines_of as lines_of
from topolandscape.study.report import write_report as write_report
from topolandscape.study.runs import run as run
from topolandscape.study.runs import run_shard as run_shard
from topolandscape.study.runs import run_surface as run_surface
from topolandscape.study.statistics import Against as Against
from topolandscape.study.statistics import correlations as correlations
from topolandscape.study.statistics import differences as differences
from topolandscape.study.statistics import intervals as intervals
from topolandscape.study.studies import Study as Study
from topolandscape.study.studies import read_study as read_study
