"""A bird that a clip must be remembered for: it looks in from the top left corner, leaves, and comes back in the same colour.

No prompt names the colour. A visit is one chunk long (12 pictures) and starts with a chunk, visits are 4 chunks apart
(PERIOD latent frames): 9 latent frames without a bird lie between two of them. A cache that shows a new chunk less than the last 10
frames, and keeps nothing of the visit before, cannot know the colour; one that shows 12 can.
"""

import math

import torch

COLORS = dict(yellow=(255, 210, 0), magenta=(226, 24, 170), green=(40, 190, 60), black=(22, 18, 26))
SKIES = ["noon", "cloudy"]  # by day all four are far from the colours of the sky, and from each other after the autoencoder
LENGTH, PERIOD = 3, 12      # latent frames
FIRST_CHUNKS = 5            # the first visit is in one of these chunks
RADIUS = 0.115              # of the body, in picture heights
PERCH = (0.17, 0.17)        # where it is in the middle of a visit


def first_picture(latent):
    """The first picture of a latent frame: the first has one, the others four."""
    return max(0, 4 * latent - 3)


def phase(first, pictures):
    """How far a visit has come, 0..1, or more than 1 between visits, for picture numbers [T] (real numbers are fine).

    first: chunk of the first visit; before it there is none.
    """
    since = pictures - (4 * LENGTH * first - 3)
    return torch.where(since < 0, torch.full_like(pictures, 9.), (since % (4 * PERIOD) + 0.5) / (4 * LENGTH))


def over(image, color, alpha):
    return image * (1 - alpha[:, None]) + color.view(-1, 3, 1, 1) * alpha[:, None]


def draw_bird(image, color, first, pictures):
    """Draw the bird into pictures [T,3,S,S] with these numbers [T]; returns (pictures, coverage [T,S,S])."""
    size = image.shape[-1]
    grid = (torch.arange(size) + .5) / size
    part = phase(first, pictures)
    there = (part < 1).float()
    rise = torch.sin(math.pi * part.clamp(0, 1)) * there
    e = lambda v: v[:, None, None]
    x, y = e(PERCH[0] + .10 * (part.clamp(0, 1) - .5)), e(-RADIUS * 1.3 + (PERCH[1] + RADIUS * 1.3) * rise)
    u, v = (grid[None, None] - x) / RADIUS, (grid[None, :, None] - y) / RADIUS
    soft = 1 / size / RADIUS
    disc = lambda cu, cv, ru, rv: ((.5 - (torch.sqrt(((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2) - 1) * min(ru, rv) / soft).clamp(0, 1)) * e(there)
    body = torch.tensor(COLORS[color], dtype=torch.float32) / 255
    flap = e(.35 * torch.sin(2 * math.pi * pictures / 4))
    image = over(image, torch.tensor([.98, .55, .10]), disc(1.02, -.02, .34, .17))
    coverage = disc(0, 0, 1, 1)
    image = over(image, body, coverage)
    image = over(image, body * .78, disc(-.25, .15 - flap, .52, .26 + flap.abs().mean() * .2))
    image = over(image, torch.ones(3), disc(.42, -.30, .22, .22))
    image = over(image, torch.zeros(3), disc(.47, -.30, .11, .11))
    return image, coverage
