"""Small models of the picture-book world, trained on scenes drawn as training goes."""
