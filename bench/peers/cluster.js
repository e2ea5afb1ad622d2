// cluster.js: HTTP echo by node's cluster module: node cluster.js PORT
const cluster = require('cluster'), http = require('http');
if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
} else {
  http.createServer((request, response) => {
    const parts = [];
    request.on('data', part => parts.push(part));
    request.on('end', () => {
      const body = Buffer.concat(parts);
      response.writeHead(200, {'Content-Type': 'application/octet-stream',
                               'Content-Length': body.length});
      response.end(body);
    });
  }).listen(Number(process.argv[2]), '127.0.0.1');
}
