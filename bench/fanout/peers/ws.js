'use strict'
// Node's `ws`: lines come by TCP, and go to every viewer.
//
//     node ws.js PORT FEED_PORT line|batch
//
// line: as one writes it: each line is made JSON once and sent to each client. batch: our batching: all whole lines of a
// chunk are one message.
const net = require('node:net')
const { WebSocketServer } = require('ws')

const [port, feedPort, form] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]]
const server = new WebSocketServer({ port, host: '127.0.0.1' }, () => feed.listen(feedPort, '127.0.0.1', () => console.log('{"ready": true}')))

function broadcast (message) {
  for (const client of server.clients) {
    if (client.readyState === 1) client.send(message)
  }
}

const feed = net.createServer((socket) => {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    if (form === 'batch') {
      if (lines.length) broadcast(Buffer.from(JSON.stringify({ type: 'lines', lines })))
      // What ours does, too: read on when all viewers have taken it.
      let full = 0
      for (const client of server.clients) full = Math.max(full, client.bufferedAmount)
      if (full > 1 << 20) {
        socket.pause()
        const look = () => {
          for (const client of server.clients) if (client.bufferedAmount > 1 << 16) return setImmediate(look)
          socket.resume()
        }
        setImmediate(look)
      }
    } else {
      for (const line of lines) broadcast(JSON.stringify({ type: 'line', line }))
    }
  })
})
