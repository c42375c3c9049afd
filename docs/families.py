"""The texts of the gallery: what each family introduced, how graft's version differs, and where sources disagree."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A family of networks.

    `module` is its file in `graft.models`; `shown` is the network that is drawn and listed by stage; `experiments` are
    those of `graft lab` about what it introduced.
    """

    module: str
    title: str
    shown: str
    introduced: str
    differs: str
    experiments: tuple[str, ...] = ()


# In the order in which the papers came out.
FAMILIES = (
    Family(
        "lenet",
        "LeNet-5",
        "lenet5",
        """\
The plan that all other networks on this page follow: small kernels whose weights are shared across the image, maps
that become smaller and more numerous, dense layers at the end, and everything from pixels to classes trained together
by back-propagation. Until then, features were designed by hand and only the classifier was trained. LeNet-5 read the
digits on cheques, and its data set, MNIST, is still the first that most people train on.""",
        """\
`lenet5` is the version that textbooks teach, with average pooling between the layers and a linear output.
`lenet5_1998` is the paper's version: sub-sampling with trained coefficients, a C3 that connects only some of the maps,
and an output that measures the distance to a code for each class. The paper's codes are bitmaps of the digits; here
they are random, which the paper allows.""",
        experiments=("lenet-1998", "lenet-today", "activations"),
    ),
    Family(
        "alexnet",
        "AlexNet",
        "alexnet_2012",
        """\
The network that made convolutions the standard in computer vision: it won ILSVRC-2012 with a top-5 error of 15.3 % on
the test images, where the runner-up had 26.2 %. The plan was LeNet's at a thousand times the size, made trainable by
rectified units instead of tanh, dropout in the dense layers, augmented images, and two GPUs that each held half of the
maps. Nearly all of its parameters are in the dense layers, and nearly all of its multiply-adds in the
convolutions.""",
        """\
`alexnet_2012` implements the two halves as groups. `alexnet` is the single tower of 2014 that libraries ship under
this name. In both, an adaptive pool precedes the dense layers, which changes nothing at the usual size and allows other
sizes, and the initialisation is that of He et al. 2015.""",
        experiments=("towers", "normalisation", "overfitting"),
    ),
    Family(
        "vgg",
        "VGG",
        "vgg16",
        """\
One idea carried through: no kernel larger than 3 × 3, and as many of them in a row as training allows. Two see as far
as one of 5 × 5, and three as far as one of 7 × 7, with fewer weights and more rectifiers. Depth was shown to pay up to
19 layers, and the features suit other tasks so well that VGG-16 was the usual base for transfer learning for years,
despite its size: most of its parameters are in the first dense layer.""",
        """\
All columns of the paper, and the variants with batch norm that libraries have. An adaptive pool precedes the dense
layers, which changes nothing at 224 px and allows other sizes from 32 px. The deep columns are initialised as in He et
al. 2015; the paper started them from a trained column A.""",
        experiments=("stacked", "kernels", "variance"),
    ),
    Family(
        "googlenet",
        "GoogLeNet",
        "googlenet_2014",
        """\
Instead of choosing one kernel, its modules apply 1 × 1, 3 × 3 and 5 × 5 convolutions and a pool side by side and
concatenate the results. That is affordable because 1 × 1 convolutions first reduce the channels. The mean of each map
replaces the dense layers. With a twelfth of AlexNet's parameters, by its paper's count, it won ILSVRC-2014. Two
auxiliary classifiers halfway, used only in training, help the gradient to reach the first layers.""",
        """\
`googlenet_2014` is the network of the paper. `googlenet` is that of the public checkpoints: with batch norm, 3 × 3
kernels where the paper has 5 × 5, a smaller last pool, and less dropout.""",
        experiments=("pointwise", "inception", "reduction"),
    ),
    Family(
        "inception_v3",
        "Inception v3",
        "inception_v3",
        """\
A redesign of the inception module. Large kernels are factorised into several small ones, and n × n kernels into 1 × n
and n × 1; maps are halved by a convolution and a pool side by side, so that no layer is a bottleneck; batch norm is
used throughout. Its recipe includes label smoothing and RMSProp.""",
        """\
The version of the public checkpoints, which differs from the printed table: the stem has a 1 × 1 and a 3 × 3
convolution and a pool where the table has only 3 × 3 convolutions, the first blocks keep a 5 × 5 convolution, and the
auxiliary classifier has a 5 × 5 convolution in place of its dense layer.""",
    ),
    Family(
        "resnet",
        "ResNet",
        "resnet50",
        """\
Plain networks became worse as they became deeper, even on the training images, so overfitting was not the reason. Here
every block learns what to add to its input, and an input that needs no change passes unchanged. That made 152 layers
trainable, won ILSVRC-2015, and put shortcuts into nearly every network since. The usual explanation, vanishing
gradients, is not the authors': they found healthy gradients in their plain networks, thanks to batch norm.""",
        """\
A bottleneck that halves the map does so in its 3 × 3 convolution rather than in the first 1 × 1, like every public
checkpoint: same parameters, different outputs, more multiply-adds. Where a CIFAR shortcut adds channels of zeros, half
of them come before the others and half after. The `plain` networks are the same layers without shortcuts.""",
        experiments=("identity", "degradation", "gradients"),
    ),
    Family(
        "inception_v4",
        "Inception v4",
        "inception_v4",
        """\
Inception without the compromises of its history: a deeper stem that also branches, and three kinds of uniform blocks,
repeated 4, 7 and 3 times with fixed reductions between them. It was built to find out whether inception needs
shortcuts, and without them it performed as well as its residual sibling with them.""",
        """\
Where the paper's figures are inconsistent, the authors' weights decide: the last convolution of the stem halves the
map, and the long kernels of the second block alternate in direction.""",
    ),
    Family(
        "inception_resnet_v2",
        "Inception-ResNet v2",
        "inception_resnet_v2",
        """\
The other answer of the same paper: inception branches as the residual function of a block, with a linear 1 × 1
convolution that restores the width of the input. It costs about as much as Inception v4 and trains faster. Very wide
residual blocks died early in training unless their output was scaled down before the addition, here by 0.1 to
0.2.""",
        """\
The network of the authors' weights rather than of the figures: the stem of Inception v3 followed by a module, twice as
many residual blocks, different widths between them, and a last block that is neither scaled nor rectified.""",
    ),
    Family(
        "preact_resnet",
        "Pre-activation ResNet",
        "preact_resnet50",
        """\
Batch norm and ReLU precede the convolutions, so that the path of shortcuts from the first block to the last is clear:
the signal and the gradient pass every block unchanged. The gain is small at 50 layers and large at a thousand, where
the original form is hard to train.""",
        """\
As in ResNet, a bottleneck halves the map in its 3 × 3 convolution. The head of the ImageNet networks is a 1 × 1
convolution, and the first shortcuts start at the same point as in the public checkpoints.""",
    ),
    Family(
        "densenet",
        "DenseNet",
        "densenet121",
        """\
Shortcuts that concatenate instead of adding: a layer sees the maps of all earlier layers in its block and contributes
a few of its own. Features are reused rather than recomputed, so layers can be very narrow, and the network needs at
most half the parameters of a ResNet with the same error. What it saves in parameters it spends on memory for all these
maps.""",
        """\
The networks with bottlenecks and with transitions that halve the channels (DenseNet-BC). DenseNet-161 appears in only
one version of the paper.""",
        experiments=("joining",),
    ),
    Family(
        "xception",
        "Xception",
        "xception",
        """\
Inception taken to its limit: if channels and positions can be handled separately, one filter per channel covers the
positions and a 1 × 1 convolution mixes the channels. Stacks of these depthwise separable convolutions, with shortcuts,
did better than Inception v3 with as many parameters.""",
        """\
As in the paper. Weights converted from Keras need an epsilon of 1e-3 in batch norm, where this has 1e-5.""",
        experiments=("separable",),
    ),
    Family(
        "mobilenet_v1",
        "MobileNet v1",
        "mobilenet_v1",
        """\
Depthwise separable convolutions for phones: eight to nine times fewer multiply-adds than full 3 × 3 convolutions, at
the price of one point of accuracy. Two numbers, a factor on all widths and the image size, trade accuracy for speed, so
that there is a member of the family for every device.""",
        """\
ReLU6, as in the authors' code; the paper says ReLU.""",
        experiments=("separable", "separation"),
    ),
    Family(
        "mobilenet_v2",
        "MobileNet v2",
        "mobilenet_v2",
        """\
The bottleneck turned inside out: a block expands a narrow input with a 1 × 1 convolution, filters it depthwise, and
projects it back without an activation, which would destroy information in so few channels. Shortcuts connect the narrow
ends, so that little has to be kept in memory.""",
        """\
As in the paper's table, which lists 17 blocks, while the text speaks of 19.""",
    ),
    Family(
        "mobilenet_v3",
        "MobileNet v3",
        "mobilenet_v3_large",
        """\
Found by a search that measures latency on a phone, then finished by hand: squeeze-and-excitation in some blocks, hard
swish instead of swish because it is cheap, and a last stage that was moved behind the pooling, where it costs next to
nothing.""",
        """\
As in the paper, except for details of the authors' code: the excitation squeezes to a multiple of 8 channels, and the
last 1 × 1 convolution of the small network has no excitation. The layers behind the pooling are linear layers.""",
    ),
    Family(
        "efficientnet",
        "EfficientNet",
        "efficientnet_b0",
        """\
A network can grow in depth, in width and in image size, and growth in only one of them soon stops paying. Here a
single number scales all three in fixed proportion, starting from a small network that was found by search. B7 equalled
the best network of its time with an eighth of the parameters. Lite0 to Lite4 of 2020 are B0 to B4 for the integer
arithmetic of phones: ReLU6 for swish, no excitations, and both ends of the network as in B0.""",
        """\
The scaling factors are those of the authors' code, since the paper does not print them. The momentum of batch norm up
to B4 and in Lite is that of the public checkpoints.""",
        experiments=("scaling",),
    ),
)

# Subject, claim, and what graft follows. Disagreements about a single calculation are in the worked examples.
DECISIONS = (
    (
        "LeNet-5",
        "Three convolutions and two dense layers, or two and three; images of 28 px or of 32 px",
        "Both describe the same network: C5 covers its whole input, and 28 px are padded by two. Pooling follows only "
        "C1 and C3; one chapter also has it behind C5.",
    ),
    (
        "AlexNet",
        "A top-5 error of 15.3 or 15.4 %",
        "15.3 on test and 15.4 on validation images, both for seven networks together, two of which had seen more "
        "data. One network alone has 18.2.",
    ),
    (
        "AlexNet",
        "60 million parameters, in one network of that name",
        "There are two networks and two entries: the two halves of 2012 and the single tower of 2014.",
    ),
    (
        "AlexNet",
        "Response normalisation with alpha 1e-4",
        "The paper multiplies alpha by the sum over five channels, torch and Caffe by the mean. graft follows the "
        "paper: 5e-4 in torch's terms.",
    ),
    (
        "VGG",
        "8.1 % for VGG-16 and 7.4 % for VGG-19",
        "These are two protocols. One scale, dense: 8.1 and 8.0. Three scales with 50 crops each: 7.5 and 7.4. The "
        "7.3 % of the competition come from seven networks.",
    ),
    (
        "VGG",
        "14 million images of 1,000 classes",
        "These are two data sets: ImageNet has 14 million images, the 1,000 classes of the competition 1.28 million.",
    ),
    (
        "GoogLeNet",
        "A stem like AlexNet's or LeNet's",
        "The layers differ: GoogLeNet has convolutions of 7 × 7, 1 × 1 and 3 × 3, AlexNet of 11 × 11 and 5 × 5.",
    ),
    (
        "ResNet",
        "Convolution, batch norm and ReLU three times, and then the sum",
        "The last ReLU comes after the sum, and the blocks of ResNet-18 and 34 have two convolutions.",
    ),
    (
        "ResNet",
        "The stride of a bottleneck is in its first or its second convolution",
        "In the second, as in every public checkpoint; the paper has it in the first. The weights fit both, but the "
        "outputs differ.",
    ),
    (
        "ResNet",
        "3.57 % top-5 error",
        "That is six networks together, on test images. ResNet-152 alone has 4.49 on validation images at several "
        "scales, and 5.71 with ten crops.",
    ),
    (
        "ResNet",
        "A shortcut adds channels of zeros; no source says where",
        "Half before and half after the others: public checkpoints for CIFAR-10 fail otherwise.",
    ),
    (
        "ResNet",
        "It is from 2016",
        "The paper appeared in December 2015, at a conference in 2016. This page gives the year of the paper.",
    ),
    (
        "ImageNet",
        "The competition ran from 2010 to 2016",
        "It was last held in 2017.",
    ),
    (
        "transfer",
        "With large and similar data, freeze 60 to 80 %, or nothing",
        "The text and the table of one chapter differ. graft assumes neither: a level is a cut, and both `frozen:F` "
        "and `all` are available.",
    ),
    (
        "transfer",
        "A frozen base is transfer learning; fine-tuning is something else, or a kind of it",
        "They are one idea: every level of transfer learning is a cut between what is kept and what is trained.",
    ),
)
