"""How barcodes are compared: scores, barriers, distances, and how sure one can be of a difference."""

from topolandscape.compare.groups import bar_bands as bar_bands
from topolandscape.compare.groups import bootstrap_interval as bootstrap_interval
from topolandscape.compare.groups import cliffs_delta as cliffs_delta
from topolandscape.compare.groups import hodges_lehmann as hodges_lehmann
from topolandscape.compare.groups import holm as holm
from topolandscape.compare.groups import permutation_test as permutation_test
from topolandscape.compare.matching import bottleneck as bottleneck
from topolandscape.compare.matching import distances as distances
from topolandscape.compare.matching import wasserstein as wasserstein
from topolandscape.compare.resampling import bootstrap_band as bootstrap_band
from topolandscape.compare.resampling import convergence as convergence
from topolandscape.compare.resampling import data_band as data_band
from topolandscape.compare.scores import bar_lengths as bar_lengths
from topolandscape.compare.scores import barriers_above_higher as barriers_above_higher
from topolandscape.compare.scores import barriers_above_mean as barriers_above_mean
from topolandscape.compare.scores import constant_predictor_ceiling as constant_predictor_ceiling
from topolandscape.compare.scores import normalised as normalised
from topolandscape.compare.scores import to_score as to_score
from topolandscape.compare.summaries import betti_curve as betti_curve
from topolandscape.compare.summaries import persistence_image as persistence_image
from topolandscape.compare.summaries import persistence_landscapes as persistence_landscapes
from topolandscape.compare.summaries import persistent_entropy as persistent_entropy
from topolandscape.compare.summaries import smad as smad
from topolandscape.compare.summaries import summary as summary
from topolandscape.compare.summaries import total_persistence as total_persistence
