"""How the page looks: fonts that every system has, warm paper, one colour."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parent / "static"
SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
ACCENT = ("#fdf1ed", "#fbe0d8", "#f5bfb0", "#ee9a83", "#e67859", "#d95f3d", "#bf4526", "#9c371d", "#7a2c18", "#5c2213",
          "#3d170d")  # fmt: skip
GREY = ("#faf9f6", "#f3f1ec", "#e8e6e0", "#d6d3cb", "#a9a59b", "#7c786f", "#5d5a53", "#45433e", "#2e2c29", "#1f1e1c",
        "#161514")  # fmt: skip


def theme() -> Any:
    """The theme of Gradio's own parts."""
    import gradio as gr
    from gradio.themes.utils import colors

    accent = colors.Color(*ACCENT, name="accent")
    grey = colors.Color(*GREY, name="grey")
    base = gr.themes.Base(
        primary_hue=accent, secondary_hue=accent, neutral_hue=grey, font=SANS, font_mono=MONO, radius_size="lg"
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="*neutral_900",
        block_background_fill="#ffffff",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_border_width="1px",
        block_shadow="none",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_300",
        block_title_text_weight="500",
        block_title_text_size="*text_sm",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_width="1px",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )


@cache
def css() -> str:
    """The style sheet of the page."""
    return (STATIC / "page.css").read_text("utf-8")


@cache
def head() -> str:
    """What stands in the head of the page: its scripts, whole, since nothing is loaded from elsewhere."""
    scripts = "".join(f"<script>{(STATIC / name).read_text('utf-8')}</script>" for name in ("page.js", "canvas.js"))
    return f'<meta name="color-scheme" content="light dark">{scripts}'
