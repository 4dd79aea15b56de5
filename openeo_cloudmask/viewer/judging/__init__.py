"""The parts of the page Compare, drawn by Streamlit: what is chosen, the map, pixels, scores."""
