"""Operations on tensors: kernels with their bodies, and the calculus above them."""

from . import activation as activation
from . import attention as attention
from . import cross_entropy as cross_entropy
from . import dropout as dropout
from . import embedding as embedding
from . import extremes as extremes
from . import gemv as gemv
from . import int8 as int8
from . import ladders as ladders
from . import matmul as matmul
from . import mixed as mixed
from . import norm as norm
from . import operators as operators
from . import packed as packed
from . import packed_cuda as packed_cuda
from . import packed_loops as packed_loops
from . import pointwise as pointwise
from . import reduce as reduce
from . import rmsnorm as rmsnorm
from . import rope as rope
from . import rope_scaling as rope_scaling
from . import shape as shape
from . import softmax as softmax
from . import squared_error as squared_error
from . import swiglu as swiglu
from . import transpose as transpose
