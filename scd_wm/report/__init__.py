"""What a world model imagined, to look at: videos, pictures, plots and one self-contained page."""
