"""Runs on disk: nouns as npz files, and folders in which a computation can be stopped and gone on with.

Every file appears whole or not at all: it is written under another name, flushed to the disk and then renamed. The
manifest of a run lists each file with its checksum; what it does not list does not count, so nothing half-done is
ever taken for a result. No file is unpickled.
"""

from topolandscape.files.exports import export as export
from topolandscape.files.lock import locked as locked
from topolandscape.files.nouns import load as load
from topolandscape.files.nouns import save as save
from topolandscape.files.runs import Run as Run
from topolandscape.files.shards import Shards as Shards
from topolandscape.files.surfaces import SURFACES as SURFACES
from topolandscape.files.surfaces import read_surface as read_surface
from topolandscape.files.users import bytes_in_file as bytes_in_file
from topolandscape.files.users import function_in_file as function_in_file
from topolandscape.files.users import in_one_line as in_one_line
from topolandscape.files.users import telling_where as telling_where
