"""The words of the gallery: what each family brought, what graft's version does differently, what was decided."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """`module` is the file in `graft.models`, `shown` the network that is drawn and listed by stage."""

    module: str
    title: str
    shown: str
    brought: str
    differs: str


# In the order in which the papers came out.
FAMILIES = (
    Family(
        "lenet",
        "LeNet-5",
        "lenet5",
        """\
The plan that all others on this page follow: small kernels whose weights are shared across the image, maps
that get smaller and more numerous, dense layers at the end, and everything from the pixels to the classes
trained together by back-propagation. Others designed features by hand and trained the classifier alone. It read
the digits of cheques, and its data set, MNIST, is still the first that most people train on.""",
        """\
`lenet5` is the form that textbooks teach, with plain averages between the layers and a linear output.
`lenet5_1998` is the paper's: sub-sampling with trained coefficients, a C3 that connects only some of the maps,
and an output that measures the distance to a code for each class. The codes are random here, which the paper
allows, where it draws bitmaps of the digits.""",
    ),
    Family(
        "alexnet",
        "AlexNet",
        "alexnet_2012",
        """\
The network that made convolutions the way to see: it won ILSVRC-2012 with 15.3 % top-5 error on the test
images where the next entry had 26.2 %. The plan was LeNet's at a thousand times the size, made trainable by
rectified units instead of tanh, dropout in the dense layers, augmented images, and two GPUs that each held
half of the maps. Nearly all of its parameters are in the dense layers and nearly all of its multiply-adds in
the convolutions.""",
        """\
`alexnet_2012` has the two halves as groups. `alexnet` is the single tower of 2014 that libraries ship under
this name. In both an adaptive pool stands in front of the dense layers, which changes nothing at the usual size
and lets others run, and the random start is that of He et al. 2015.""",
    ),
    Family(
        "vgg",
        "VGG",
        "vgg16",
        """\
One idea carried through: no kernel larger than 3 × 3, and as many of them in a row as training allows. Two see
as far as one of 5 × 5 and three as far as one of 7 × 7, with fewer weights and more rectifiers. Depth was shown
to pay up to 19 layers, and the features turned out to suit other tasks so well that VGG-16 was the usual base
for transfer for years, in spite of its size: most of its parameters are in the first dense layer.""",
        """\
The columns of the paper, and those with batch norm that libraries have. An adaptive pool stands in front of the
dense layers, which does nothing at 224 px and lets other sizes from 32 px run. The deep columns start from
random weights by He et al. 2015; the paper's started from a trained column A.""",
    ),
    Family(
        "googlenet",
        "GoogLeNet",
        "googlenet_2014",
        """\
Instead of choosing a kernel, its modules take 1 × 1, 3 × 3, 5 × 5 and a pool side by side and join what comes
out. That is affordable because 1 × 1 convolutions first reduce the channels. A mean over each map replaces the
dense layers. With a twelfth of AlexNet's parameters, as its paper counts them, it won ILSVRC-2014; two
classifiers halfway, used in training only, help the gradient down to the first layers.""",
        """\
`googlenet_2014` is the network of the paper. `googlenet` is that of the public checkpoints: batch norm, 3 × 3
kernels where the paper has 5 × 5, a smaller last pool, less dropout.""",
    ),
    Family(
        "inception_v3",
        "Inception v3",
        "inception_v3",
        """\
The inception module thought through again. A large kernel becomes several small ones, and an n × n one a 1 × n
and an n × 1; maps are halved by a convolution and a pool side by side, so that no layer is a bottleneck; batch
norm is everywhere. Smoothed labels and RMSProp belong to its recipe.""",
        """\
The form of the public checkpoints, which differs from the printed table: a 1 × 1 and a 3 × 3 convolution and a
pool where the stem has 3 × 3 convolutions alone, a 5 × 5 kept in the first blocks, and a 5 × 5 convolution for
the dense layer of the auxiliary classifier.""",
    ),
    Family(
        "resnet",
        "ResNet",
        "resnet50",
        """\
Plain networks got worse as they got deeper, on the training images too, so that it was no overfitting. Here
every block learns what to add to its input, and an input that needs nothing passes unchanged. That made 152
layers trainable, won ILSVRC-2015, and left the shortcut in nearly every network since. The paper found healthy
gradients in its plain networks, which batch norm sees to: vanishing gradients, the usual explanation, is not
the authors'.""",
        """\
A bottleneck that halves the map does so in its 3 × 3 convolution and not in the first 1 × 1, as every public
checkpoint does: same parameters, other outputs, more multiply-adds. Where a CIFAR shortcut adds channels of
zeros, half of them come before and half after. The `plain` networks are the same layers without shortcuts.""",
    ),
    Family(
        "inception_v4",
        "Inception v4",
        "inception_v4",
        """\
Inception without the compromises of its history: a deeper stem that branches too, and three kinds of uniform
blocks repeated 4, 7 and 3 times with fixed reductions between them. It was written to ask whether inception
needs shortcuts, and came out as good without them as its residual sister with them.""",
        """\
Where the figures slip, the authors' weights decide: the last convolution of the stem halves the map, and the
long kernels of the second block cross.""",
    ),
    Family(
        "inception_resnet_v2",
        "Inception-ResNet v2",
        "inception_resnet_v2",
        """\
The other answer of the same paper: inception branches as the residual function of a block, brought back to the
width of the input by a linear 1 × 1 convolution. It costs about as much as Inception v4 and trains faster. Very
wide residual blocks died early in training unless their output was scaled down before it was added, here by 0.1
to 0.2.""",
        """\
The network of the authors' weights, not of the figures: the stem of Inception v3 with a module behind it, twice
as many residual blocks, other widths between them, and a last block that is neither scaled nor rectified.""",
    ),
    Family(
        "preact_resnet",
        "Pre-activation ResNet",
        "preact_resnet50",
        """\
Batch norm and ReLU moved in front of the convolutions, so that nothing stands on the way from one block's input
to the last block's output: the signal and the gradient pass every block unchanged. Little is gained at 50
layers, much at a thousand, where the first form is hard to train.""",
        """\
As in ResNet, a bottleneck halves the map in its 3 × 3 convolution. The head of the ImageNet networks is kept as
a 1 × 1 convolution and the first shortcuts start where those of the public checkpoints do.""",
    ),
    Family(
        "densenet",
        "DenseNet",
        "densenet121",
        """\
Shortcuts that concatenate instead of adding: a layer sees the maps of all layers before it in its block and
contributes a few of its own. Features are used again instead of being computed again, so that layers can be
very narrow, and it needs half the parameters of a ResNet of equal error or fewer. What it saves in parameters
it takes in memory for all those maps.""",
        """\
The networks with bottlenecks and with transitions that halve the channels (DenseNet-BC). DenseNet-161 is in one
version of the paper only.""",
    ),
    Family(
        "xception",
        "Xception",
        "xception",
        """\
Inception taken to its limit: if channels and places can be handled separately, let one filter per channel look
at the places and a 1 × 1 convolution mix the channels. Stacks of such depthwise separable convolutions, with
shortcuts, did better than Inception v3 with as many parameters.""",
        """\
As in the paper. Weights converted from Keras want 1e-3 in batch norm where this has 1e-5.""",
    ),
    Family(
        "mobilenet_v1",
        "MobileNet v1",
        "mobilenet_v1",
        """\
Depthwise separable convolutions for telephones: eight to nine times fewer multiply-adds than full 3 × 3
convolutions for one point of accuracy. Two numbers, a factor on all widths and the size of the image, trade
accuracy for speed, and a user picks from the family what the device affords.""",
        """\
ReLU6 as in the authors' code, where the paper says ReLU.""",
    ),
    Family(
        "mobilenet_v2",
        "MobileNet v2",
        "mobilenet_v2",
        """\
The bottleneck turned inside out: a block expands a narrow input by 1 × 1 convolutions, filters it depthwise,
and projects it back without an activation, which would destroy information in so few channels. Shortcuts join
the narrow ends, so little has to be kept in memory.""",
        """\
As in the paper's table, which lists 17 blocks where its text speaks of 19.""",
    ),
    Family(
        "mobilenet_v3",
        "MobileNet v3",
        "mobilenet_v3_large",
        """\
Found by a search that measures the time on a telephone, then finished by hand: squeeze-and-excitation in some
blocks, hard swish instead of swish because it is cheap, and a last stage moved behind the pooling, where it
costs next to nothing.""",
        """\
As in the paper but for details of its authors' code: the excitation squeezes to a multiple of 8 channels, and
the last 1 × 1 convolution of the small network has none. The layers behind the pooling are linear.""",
    ),
    Family(
        "efficientnet",
        "EfficientNet",
        "efficientnet_b0",
        """\
A network can grow in depth, in width and in the size of its images, and growing in one alone soon stops
paying. Here one number grows all three in fixed proportion, from a small network that was found by search. B7
equalled the best of its time with an eighth of the parameters.""",
        """\
The factors are those of the authors' code, which the paper does not print. Batch norm's momentum up to B4 is
that of the public checkpoints.""",
    ),
)

# What is said, and what graft follows. Those on a single calculation stand with the worked examples.
DECISIONS = (
    (
        "LeNet-5",
        "Three convolutions and two dense layers, or two and three; images of 28 px or of 32 px",
        "Both are the same network: C5 covers its whole input, and 28 px are padded by two. Pooling follows C1 and C3 "
        "only; a chapter also has it behind C5.",
    ),
    (
        "AlexNet",
        "A top-5 error of 15.3 or 15.4 %",
        "15.3 on test and 15.4 on validation images, both of seven networks, two of which had seen more data. One "
        "network alone: 18.2.",
    ),
    (
        "AlexNet",
        "60 million parameters, of one network by that name",
        "Two networks, two entries: the two halves of 2012 and the single tower of 2014.",
    ),
    (
        "AlexNet",
        "Response normalisation with alpha 1e-4",
        "The paper multiplies alpha with the sum over five channels, torch and Caffe with the mean. The paper holds: "
        "5e-4 in torch's terms.",
    ),
    (
        "VGG",
        "8.1 % for VGG-16 and 7.4 % for VGG-19",
        "Two protocols. One scale, dense: 8.1 and 8.0. Three scales with 50 crops each: 7.5 and 7.4. The 7.3 % of the "
        "competition are seven networks.",
    ),
    (
        "VGG",
        "14 million images of 1,000 classes",
        "Two data sets: ImageNet has 14 million images, the 1,000 classes of the competition 1.28 million.",
    ),
    (
        "GoogLeNet",
        "A stem like AlexNet's or LeNet's",
        "Not the same layers: convolutions of 7 × 7, 1 × 1 and 3 × 3 where AlexNet has 11 × 11 and 5 × 5.",
    ),
    (
        "ResNet",
        "Three times convolution, batch norm, ReLU, and then the sum",
        "The last ReLU comes behind the sum, and the blocks of ResNet-18 and 34 have two convolutions.",
    ),
    (
        "ResNet",
        "The stride of a bottleneck in its first or its second convolution",
        "The second, as in every public checkpoint; the paper has it in the first. The weights fit both, the outputs "
        "differ.",
    ),
    (
        "ResNet",
        "3.57 % top-5 error",
        "Six networks together, on test images. ResNet-152 alone, on validation images: 4.49 at several scales, "
        "5.71 with ten crops.",
    ),
    (
        "ResNet",
        "Channels of zeros on a shortcut, nobody says where",
        "Half before and half behind the others: public checkpoints for CIFAR-10 fail the other way.",
    ),
    (
        "ResNet",
        "Of 2016",
        "The paper is of December 2015, its conference of 2016. This page gives the year of the paper.",
    ),
    (
        "ImageNet",
        "Competitions from 2010 to 2016",
        "The last one was in 2017.",
    ),
    (
        "transfer",
        "Large and similar data: freeze 60 to 80 %, or nothing",
        "Text and table of one chapter differ. graft takes neither for granted: a level is a cut, and `frozen:F` and "
        "`all` are both at hand.",
    ),
    (
        "transfer",
        "A frozen base is transfer learning; fine-tuning is something else, or a kind of it",
        "One idea: every level of transfer learning is a cut between what is kept and what is trained.",
    ),
)
