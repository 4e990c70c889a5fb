"""What Streamlit runs, from top to bottom, at every click."""

import sys
from pathlib import Path

from linnet.lab.page import page

page(Path(sys.argv[1]))
