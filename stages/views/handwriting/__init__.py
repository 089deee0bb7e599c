"""Find the digits in a picture, make each look like one of MNIST's, and read them.

MNIST's authors scaled scanned digits into 20 x 20 pixels, keeping the aspect, and centred them by
mass in 28 x 28 (Y. LeCun et al., Gradient-based learning applied to document recognition,
Proceedings of the IEEE 86, 1998, section III.A). A drawing or a photo needs more before that. These
are the steps, in integers but for the last four of `normalise`, so that the page of the report,
where `paper.js`, `handwriting.js` and `reading.js` of `stages/report/static` take the same steps,
makes the same images and reads the same digits.

`paper` and `lines`: what is ink?

1.  Grey: 0.299 red + 0.587 green + 0.114 blue, on white paper where the picture is transparent (on
    black, if on white there is nothing to see).
2.  Smaller: k x k pixels become their mean, k such that the longer side is at most 320; a rest at
    the right and at the bottom is dropped.
3.  Light or dark: closing, the lowest in a window of the highest in a window, fills dark strokes
    and keeps shadows; opening, the highest of the lowest, does so with light ones. Near strokes,
    which is where a window sees that both differ much, most pixels are paper. If most are darker
    than the middle between the window's extremes, the picture is inverted. The square window
    reaches a sixth of the longer side each way, less where the shorter side is short. Beyond the
    borders the picture is turned about its outermost pixels.
4.  Paper: how bright it is at each place is told by closing. Ink is what is darker.
5.  Lines of the paper, in `lines`: paths of ink that go from border to border through what is thin,
    or very dark where strokes cross. On each, what is much thicker or much darker than the line
    mostly is stays; the rest is erased, unless the heaviest piece that is left is nearly as long
    as the picture.
6.  Contrast: the ink that only one pixel in a thousand exceeds is the strongest; below 24 the
    picture is blank. Up to a quarter of the strongest becomes 0, from three quarters on 255.

`pieces`: which ink is the digits'?

7.  Pieces: all the strong pixels, from 96 on, that touch, be it at a corner. Faint ones, below,
    belong to the piece that they hang on, unless they lead on to another piece or to the border.
8.  Dropped are pieces at the border, if one inside has a tenth of the ink of the heaviest; frames,
    which have ink in all four corners and another piece inside; and specks, which have less than a
    twentieth of the ink of the heaviest piece. If a piece that is dropped was heavy, the contrast
    is taken anew from the rest.

`normalise`: how does MNIST show a digit?

9.  Cropped to the ink and scaled, its longer side to 20 pixels, each the mean of the area it
    covers.
10. Made as bright as can be: the brightest pixel becomes 255.
11. Put into 28 x 28 so that its centre of mass is nearest to pixel 14 (13.9, lest rounding decide
    where an even picture goes), without losing a part.

`reading`: which digits are they?

12. Rows: pieces beside each other; the small ones belong to what they are near to.
13. Parts: pieces one above the other are one part; a wide part may be cut where it has least ink.
14. The parts of a row, from left to right, are joined to digits in the most likely way, by the
    network's confidence in each digit, less for each cut and each join.
15. The confidence in a digit is its probability times its familiarity, which falls from 1 to 0 as
    fewer of the validation images, 15 % to less than 1 %, are less like the others than it is
    (`stages/shared/novelty.py`).
"""
